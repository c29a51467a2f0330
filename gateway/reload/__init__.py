"""Changes of the configuration without a lost request: generations, their parent.

board      state that the parent publishes to all workers: the serving generation, outcomes of reloads
line       the line between the parent and one generation
files      whether files that were read have changed
facts      facts of a generation's configuration, for the parent
folder     `gateway dev`: a new process for each saved file
parent     the first process of `gateway serve`: starts one generation after another, waits for the end of the old one
"""
