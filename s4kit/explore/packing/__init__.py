"""What the browser gets of runs, in arrays that it asks for by key."""
