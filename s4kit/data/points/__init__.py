"""Items that are sets of points: their parts, their pictures, labelled shapes made of others."""
