"""What several tests share: scenarios, servers and peers that do what a test tells them."""
