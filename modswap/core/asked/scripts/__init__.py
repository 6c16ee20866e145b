"""Scripts: files of code of which only the definitions are run that somebody named."""
