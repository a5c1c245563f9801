"""What does an operator or an administrator do from a terminal?

Doors: `doctor`, `import_`, `inspect`, `on_database`, `roles`, `sdp`, `secret_option`, `send`, `tenant`.
"""
