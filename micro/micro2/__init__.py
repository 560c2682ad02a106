"""attndb-micro 2: the second embedded model (128 px), built beside the first.

When its weights exist, the files of this folder take the places of the first version's.
"""
