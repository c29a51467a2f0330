"""One configuration after another, and no request lost: generations, their parent.

board      what the parent tells all workers: which generation serves, what came of reloads
line       the line between the parent and one generation
files      whether what was read has changed
facts      what a generation tells of its configuration
folder     `gateway dev`: another process with each file that is saved
parent     the first process of `gateway serve`: starts one generation after another, waits for the end of the old one
"""
