"""The domain: topics, clients and what is said between them. No HTTP and no aiohttp in here."""
