"""Is a folder fit for a search?"""
