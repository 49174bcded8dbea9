"""The papers' protocols: the command line, runs that are continued, results, tables and publication."""
