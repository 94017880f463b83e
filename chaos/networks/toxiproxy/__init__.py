"""The network on which a real Toxiproxy applies the toxics: its process, its API, and the links around it."""
