"""Where the explorer is seen: a kernel's answers, a local server, a page that is one file."""
