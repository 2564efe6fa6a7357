"""Lands incoming data: files, collected segments, the inbox, replays."""
