"""What stands between bytes, names and numbers that others chose and the code that uses them.

bounded    reads small files and JSON, with a limit on size, width and depth
limits     refuses counts that no machine has
matching   expands file patterns, and ends on any tree
message    reads Arrow messages of our own layouts, and no others (needs numpy)

Nothing here knows what a data set is: a room above says what it expects.
"""
