// A certificate of one's own and its key in PEM, for tests of TLS.
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

#include "stages/result.h"

namespace nudge::testing {

// Makes CERTIFICATE and KEY anew, for the common name.
inline void WriteTlsPair(const std::string& certificate, const std::string& key,
                         const std::string& name) {
  const std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> made(EVP_EC_gen("P-256"), EVP_PKEY_free);
  ENSURE(made != nullptr);
  const std::unique_ptr<X509, void (*)(X509*)> signed_one(X509_new(), X509_free);
  X509_set_version(signed_one.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(signed_one.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(signed_one.get()), -3600);
  X509_gmtime_adj(X509_getm_notAfter(signed_one.get()), 3600);
  X509_set_pubkey(signed_one.get(), made.get());
  X509_NAME* const subject = X509_get_subject_name(signed_one.get());
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_issuer_name(signed_one.get(), subject);
  ENSURE(X509_sign(signed_one.get(), made.get(), EVP_sha256()) > 0);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> to_certificate(
      std::fopen(certificate.c_str(), "w"), std::fclose);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> to_key(std::fopen(key.c_str(), "w"),
                                                               std::fclose);
  ENSURE(PEM_write_X509(to_certificate.get(), signed_one.get()) == 1);
  ENSURE(PEM_write_PrivateKey(to_key.get(), made.get(), nullptr, nullptr, 0, nullptr, nullptr) ==
         1);
}

}  // namespace nudge::testing
