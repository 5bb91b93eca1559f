"""Pages, Markdown and notebooks of a study, and the folder they are written to."""
