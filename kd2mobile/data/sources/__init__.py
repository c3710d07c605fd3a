"""Where images come from: folders, tables, idx files, data sets with a name. What lies there becomes one Scan."""
