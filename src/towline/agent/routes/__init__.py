"""What on this side asks for a public name: ingresses, HTTPRoutes and Compose labels, told as claims."""
