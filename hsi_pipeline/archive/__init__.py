"""Archives: from catalogs and folders to the scenes to do, and to a catalog of what is done."""
