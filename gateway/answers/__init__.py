"""The gateway's own answers: statuses, redirects, files, fallbacks; compression.

targets       targets other than upstreams: a status, a redirect, a folder; replacements of answers
options       the options of such answers
static        files, decided: which one, whether it changed, which part of it
files         the view that sends files, read in threads of its own
own_answer    the view that answers with a status, a redirect or a text
replacements  the replacement of an answer (ON_*), decided
fallback      the finish that replaces answers
compression   which answers are compressed, for whom and how, decided
coders        gzip and zstd, by isal and zstandard
compress      the finish that compresses
maintenance   the gate that closes routes for a while
"""
