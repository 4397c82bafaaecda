"""Work that outlives whoever asked for it: files of requests, and single ones."""
