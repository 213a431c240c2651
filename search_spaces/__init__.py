"""Studies that ship with the package, as YAML. Each says in its first lines which question it answers."""
