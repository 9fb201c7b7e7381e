"""Reports: the HTML page, and tables for terminals and documents."""
