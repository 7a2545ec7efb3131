"""From files to a library: scan, diff, decode, encode, commit, build."""
