"""`action=story`: a character's illustrated story, as a page of HTML and a PDF."""
