# Prints hashes of bcrypt-ruby, Rails and Devise, in the form of hashes.mjs.
require "logger"
require "active_support/all"
require "bcrypt"
require "devise"
require "devise/encryptor"

Settings = Struct.new(:stretches, :pepper)
PEPPER = "0123456789abcdef" * 8 # as long as the pepper that Devise proposes

ARGV.each do |p|
  line = ->(format, hash) { puts [format, p.unpack1("H*"), hash].join("\t") }
  line.("direct", BCrypt::Password.create(p, cost: 5))
  line.("direct", Devise::Encryptor.digest(Settings.new(5, nil), p))
  line.("devise", Devise::Encryptor.digest(Settings.new(5, PEPPER), p))
end
