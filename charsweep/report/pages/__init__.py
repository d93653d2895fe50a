"""The same content set as a page, a PDF and Markdown."""
