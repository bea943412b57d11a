"""Graph -> picture: DOT text, its layout by Graphviz, and SVG, PNG or PDF from the layout."""
