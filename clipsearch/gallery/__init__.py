"""Hits made to be looked at: thumbnails, a contact sheet, a web page, a folder of copies. Prints nothing."""
