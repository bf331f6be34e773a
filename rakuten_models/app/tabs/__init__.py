"""The page's tabs: components and their events."""
