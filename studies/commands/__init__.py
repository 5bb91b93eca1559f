"""The commands of ``lr-study``, one a file; the files in ``scripts`` run the same code."""
