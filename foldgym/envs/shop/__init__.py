"""A shop to search, browse and buy in, by WebShop's protocol: as text and as a web site."""
