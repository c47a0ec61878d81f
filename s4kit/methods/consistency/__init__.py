"""Methods that ask for the same answer under a perturbation."""
