"""All that knows an array library by name; the rest of the package is written against the array API standard."""
