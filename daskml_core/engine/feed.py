def feed_of_this_fit():
    return None
