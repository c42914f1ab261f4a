"""The page of one explanation: a single HTML file that opens offline, with its graph and its templates."""
