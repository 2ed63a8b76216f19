"""Pictures of life graphs: `views.py` says which, `svg.py` and `text.py` write them."""
