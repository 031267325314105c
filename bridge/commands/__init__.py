"""What the subcommands of `mesbridge` do, a module each: in flow arguments, out flow text for people and a status."""
