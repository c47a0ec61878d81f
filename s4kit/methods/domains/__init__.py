"""Methods that learn from a labelled second domain as well."""
