"""What imitates Go byte for byte: its JSON, its number ranges, and the names on Toxiproxy's wire. Pure."""
