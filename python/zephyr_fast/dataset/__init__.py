"""The files of a dataset, in a local directory or behind a URL.

product    `Product`: the kind of a dataset
manifest   `Manifest`: contents, inputs and row counts
typed      `typed`: a JSON value as one of the manifest's types
ledger     `scan_ledger`: the outcome of every row
verify     `verify`: checks every file against the manifest
remote     downloads datasets from URLs into a cache
download   reads one file from a URL, and never more bytes than expected
address    parses URLs: which are allowed, and which parts may be printed
folder     directories that are written to without following links
names      the names that files of a dataset may have
sizes      checks that the numbers of a manifest fit the files
"""
