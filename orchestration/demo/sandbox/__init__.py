"""A webhook receiver for the demo, with a page of deliveries and members."""
