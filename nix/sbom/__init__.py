"""The bill of materials: what a platform's product is made of, by pin, and under which licences."""
