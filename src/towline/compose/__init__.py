"""Pure deployment rules: parse and validate a project, policy, diff, plan, argument lists. Data and YAML only."""
