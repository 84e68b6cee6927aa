"""The broker of many servers. Only modules of this package know Redis."""
