# Prints HS256 tokens of libraries of Ruby, in the form of sign.mjs.
require "jwt"
require "json/jwt"

claims = { sub: "johndoe", exp: Time.now.to_i + 300 }
puts "ruby-jwt\t#{JWT.encode(claims, ARGV[0], "HS256")}"
puts "json-jwt\t#{JSON::JWT.new(claims).sign(ARGV[0], :HS256)}"
