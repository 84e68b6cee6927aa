"""Who a caller is: API keys, tokens and the keys that verify them. Pure: nothing here does I/O."""
