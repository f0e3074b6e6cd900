"""`s3://bucket/prefix` wherever a file, a folder or the destination of runs is named. See docs/s3.md.

`local` turns an address into a path on this machine before anything else sees it, so that the readers of documents,
rows and weights know paths only; `mirrored` keeps a run's copy in S3 up to date while it is written here.
"""
