"""Malformed requests, sent raw through a real gateway to an upstream that takes RFC 9112 by the letter."""
