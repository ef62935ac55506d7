def display_of_this_fit():
    return None
