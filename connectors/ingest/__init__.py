"""Takes in what has arrived: files, collected segments, the inbox, quarantine."""
