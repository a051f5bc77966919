"""All code that names an array library; the rest of the package is written against the array API standard."""
