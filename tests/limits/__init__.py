"""The room `limits`, without a gateway."""
