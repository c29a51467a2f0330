"""Answers of its own: statuses, redirects, files, fallbacks; compression of any.

targets       what a route may have for an upstream: a status, a redirect, a folder; what may stand in for an answer
options       the options of such answers
static        files, decided: which one, whether it changed, which part of it
files         the view that sends files, read in threads of its own
own_answer    the view that answers with a status, a redirect or a text
replacements  which answer goes down instead of another (ON_*), decided
fallback      the finish that puts it there
compression   which answers are compressed, for whom and how, decided
coders        gzip and zstd, by isal and zstandard
compress      the finish that does it
maintenance   the gate that closes routes for a while
"""
