"""A webhook receiver for the demo, with a page that shows what arrived."""
